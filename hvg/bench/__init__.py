"""What takes how long: here, beside what others take, on a GPU, and on any number of them."""

"""What a user would take instead, timed beside ours."""

"""A scene in 3D, looked at in the browser: what is shown, and the page that shows it."""

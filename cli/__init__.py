"""The commands: one program that starts, asks, shows and checks everything; it may import every room."""

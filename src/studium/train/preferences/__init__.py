"""Which of two replies is better, and which reply was liked: made, checked, read and written."""

"""Files, and the one gate from the loop to the threads that touch them."""

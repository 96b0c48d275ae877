"""What a token is: plain Python, without Django and without a clock."""

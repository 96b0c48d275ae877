"""What every skin answers, and what each does besides."""

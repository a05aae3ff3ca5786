"""What is made of the tables by those who ask: notebooks, and what they share."""

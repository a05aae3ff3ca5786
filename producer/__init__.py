"""A game is played and its events flow onto the stream, with the players' state beside them."""

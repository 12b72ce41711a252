"""Small servers and programs that stand in for what is outside, and speak the real protocol."""

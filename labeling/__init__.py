"""The review desk: which pair a person sees next, and what becomes of the vote."""

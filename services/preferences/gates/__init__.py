"""Gates: what may go into a data set, and what somebody should look at first.

Owns the list of gates and every check behind it: of one pair's texts, of the pairs of one prompt,
of evaluation sets, and of the set as a whole. Refuses to change a text: a gate drops a pair or
warns of it, and says why.
"""

"""Two-way synchronisation with a Label Studio server.

Owns which pairs are tasks there, which person there is which annotator here, and what became of
every annotation. Our database is the truth: tasks are copies of pairs, annotations are votes on
their way in, webhooks are hints. Refuses to guess: an annotation by somebody whom nobody has
mapped waits, one that says something else than our form asks is listed with the reason.
"""

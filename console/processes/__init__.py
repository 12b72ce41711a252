"""The processes of one installation: which there are, how they start, stay up and end.

Owns ports checks, process records in `PARAM_HOME/run`, logs in `PARAM_HOME/logs`, restarts and the
order of stopping. Knows no rule of any service. Refuses a second supervisor on the same
`PARAM_HOME`, and a port that another program holds.
"""

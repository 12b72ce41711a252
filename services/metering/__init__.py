"""What was used and what it cost, to the millionth of a dollar.

Owns usage rows, versioned price tables, daily token counts and cost reports. Refuses to change a
price or a row: a new price is a new version, and each row names the version that priced it.
"""

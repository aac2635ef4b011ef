"""Reading numeric data from files: every kind of file into one array, one point per row. Nothing is ever unpickled.

Every problem with a file is a `ValueError` (a `TypeError` where the values have the wrong type) of one line that names
the file, says what is wrong with it, and what would be right.
"""

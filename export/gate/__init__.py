"""The gate: may a candidate network replace its reference?"""

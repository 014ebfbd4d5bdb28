"""Research sessions made of cycles: measure, select, run, record and learn (requirements SES-3 to SES-10).

`learn` and `decide` are pure; `ledger` is the truth on disk and `projections` the files made from it;
`session` is the loop over cycles and `cycle` one of them. The fleet alone loads and unloads.
"""

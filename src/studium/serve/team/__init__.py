"""Who may be asked now: the students, their roles, and those who are left out for a while."""

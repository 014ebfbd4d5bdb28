"""Which way a question is answered, who is asked, and when that settles it. Pure."""

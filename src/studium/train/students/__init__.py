"""The students that ship: what each is taught, how it is trained from nothing, scored and described."""

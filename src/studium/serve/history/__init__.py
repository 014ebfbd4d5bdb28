"""What is known of each student: kinds of question, grades, reliability, calibrated confidence."""

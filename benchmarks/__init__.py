"""What is measured: each module without a leading underscore is a script that prints a table."""

"""What `make doctor` looks at, a module a subject. A check is a function that yields lines and changes nothing."""

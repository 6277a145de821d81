"""The service: a trained run as a web service that learns of new choices and things at once, and what it remembers."""

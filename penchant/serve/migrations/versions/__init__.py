"""The steps. A step that was released is never changed; a later one is added."""

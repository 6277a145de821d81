"""Penchant: recommends from interactions, words and pictures, and says why."""

"""The recipe: what it may say (`schema`) and how it is read (`load`). Imports neither torch nor numpy."""

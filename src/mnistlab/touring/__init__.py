"""The steps of the tour: their commands, the photographs that they need, and the page that they leave."""

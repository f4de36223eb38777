"""What things are: phases, grids, volumes, studies, and how they are read and written."""

"""The Slicer side: studies in the scene, the engine in a child process, results bound to the nodes they came from."""

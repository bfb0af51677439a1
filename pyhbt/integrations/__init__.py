"""Parts of PyHBT in the shapes that other libraries expect; each module needs the extra of its name."""

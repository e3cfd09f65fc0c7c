"""Users as a whole: exported, erased for certain, held, and looked for."""

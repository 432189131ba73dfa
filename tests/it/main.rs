//! Does the federation do what it promises, over real processes?

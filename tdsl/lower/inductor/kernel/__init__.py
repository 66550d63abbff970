"""One call's kernel with what was fused into it: Inductor's code in the slots of ours."""

"""What ``fusion train`` does step by step: plan, images that are drawn, the result, the bundle."""

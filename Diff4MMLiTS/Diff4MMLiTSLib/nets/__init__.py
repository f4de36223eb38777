"""What is computed: inpainter, autoencoder, denoiser, diffusion, segmenter."""

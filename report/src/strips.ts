// Pixels of rows, of which each stands for everything in its time: one image for all rows, of a line for each, is drawn much
// faster than as many rectangles.

const ROWS = 128;

export class Strips {
  private readonly canvas = document.createElement("canvas");
  private image = new ImageData(1, 1);
  private width = 0;
  private places: { y: number; height: number }[] = [];
  /** Colours as the image has them, for all lines. */
  pixels = new Uint32Array(1);

  /** Where in `pixels` the line of a row begins. */
  row(context: CanvasRenderingContext2D, left: number, width: number, y: number, height: number): number {
    if (this.places.length >= ROWS) this.flush(context, left);
    if (width !== this.width) {
      this.width = width;
      this.image = new ImageData(width, ROWS);
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.canvas.width = width;
      this.canvas.height = ROWS;
    }
    this.places.push({ y, height });
    return (this.places.length - 1) * width;
  }

  /** Draws them all. */
  flush(context: CanvasRenderingContext2D, left: number) {
    const { places, width } = this;
    if (places.length === 0) return;
    this.canvas.getContext("2d")!.putImageData(this.image, 0, 0, 0, 0, width, places.length);
    context.imageSmoothingEnabled = false;
    places.forEach(({ y, height }, line) => {
      context.drawImage(this.canvas, 0, line, width, 1, left, y, width, height);
    });
    this.pixels.fill(0, 0, places.length * width);
    this.places = [];
  }
}

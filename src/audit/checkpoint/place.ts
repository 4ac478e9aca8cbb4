/** Where checkpoints are kept outside the database. */
export interface Place {
  readonly name: 'file' | 'url';
  /**
   * Takes the line of a checkpoint, without its LF; the same line again does no harm.
   * @throws when it was not taken for certain
   */
  take(line: string, signal: AbortSignal): Promise<void>;
}

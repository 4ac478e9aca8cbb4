/** What the generator asks of the target, in the first bytes of each connection. */
export const MODE = { upload: 1, download: 2, echo: 3 } as const;

export interface LoadRequest {
  readonly mode: (typeof MODE)[keyof typeof MODE];
  /** Position in the pattern at which this connection's bytes begin, both ways. */
  readonly seed: number;
  /** Downloads: how long the target sends; 0 is until the connection ends. */
  readonly durationMs: number;
  /** Echo: the target answers every `requestBytes` with `responseBytes`. */
  readonly requestBytes: number;
  readonly responseBytes: number;
}

export const REQUEST_BYTES = 20;
const MAGIC = 0x534c5042;

export const encodeRequest = (request: LoadRequest): Buffer => {
  const bytes = Buffer.alloc(REQUEST_BYTES);
  bytes.writeUInt32BE(MAGIC, 0);
  bytes.writeUInt32BE(request.mode, 4);
  bytes.writeUInt32BE(request.seed, 8);
  bytes.writeUInt32BE(request.durationMs, 12);
  bytes.writeUInt16BE(request.requestBytes, 16);
  bytes.writeUInt16BE(request.responseBytes, 18);
  return bytes;
};

/** @throws Error when the bytes are not a request: the tunnel has changed them. */
export const decodeRequest = (bytes: Buffer): LoadRequest => {
  if (bytes.readUInt32BE(0) !== MAGIC) throw new Error('the first bytes are not a load request');
  return {
    mode: bytes.readUInt32BE(4) as LoadRequest['mode'],
    seed: bytes.readUInt32BE(8),
    durationMs: bytes.readUInt32BE(12),
    requestBytes: bytes.readUInt16BE(16),
    responseBytes: bytes.readUInt16BE(18),
  };
};

/** What the target answers to an upload's FIN: whether every byte was right, and how many there were. */
export const UPLOAD_ANSWER_BYTES = 9;

export const encodeUploadAnswer = (ok: boolean, count: number): Buffer => {
  const bytes = Buffer.alloc(UPLOAD_ANSWER_BYTES);
  bytes.writeUInt8(ok ? 1 : 0, 0);
  bytes.writeDoubleBE(count, 1);
  return bytes;
};

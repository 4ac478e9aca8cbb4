import type { Socket } from 'node:net';

/** What SOCKS5 clients send, written by hand from RFC 1928 and RFC 1929. */
export const GREETING = Buffer.from([5, 1, 0]);
export const GREETING_WITH_LOGIN = Buffer.from([5, 1, 2]);

export const loginOf = (name: string, password: string): Buffer =>
  Buffer.concat([
    Buffer.from([1, Buffer.byteLength(name)]),
    Buffer.from(name),
    Buffer.from([Buffer.byteLength(password)]),
    Buffer.from(password),
  ]);

const portBytes = (port: number): Buffer => Buffer.from([port >> 8, port & 0xff]);

export const requestFor = (name: string, port: number, command = 1): Buffer =>
  Buffer.concat([
    Buffer.from([5, command, 0, 3, Buffer.byteLength(name)]),
    Buffer.from(name),
    portBytes(port),
  ]);

export const requestForIpv4 = (address: string, port: number): Buffer =>
  Buffer.concat([Buffer.from([5, 1, 0, 1, ...address.split('.').map(Number)]), portBytes(port)]);

/** @param hex 32 digits */
export const requestForIpv6 = (hex: string, port: number): Buffer =>
  Buffer.concat([Buffer.from([5, 1, 0, 4]), Buffer.from(hex, 'hex'), portBytes(port)]);

/** The answer to a greeting without login, and the reply to a request. */
export const METHOD_NONE = '0500';
export const replyOf = (code: number): string => `05${code.toString(16).padStart(2, '0')}0001000000000000`;

/** What comes next up to where `lengthOf` says that it is enough; the rest stays in the socket, which is paused then. */
const readUntil = (socket: Socket, lengthOf: (bytes: Buffer) => number | undefined): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const stop = (): void => {
      socket.off('data', onData).off('end', onEnd).off('error', onEnd).off('close', onEnd);
    };
    const onData = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      const length = lengthOf(bytes);
      if (length === undefined) return;
      stop();
      socket.pause();
      if (bytes.length > length) socket.unshift(bytes.subarray(length));
      resolve(bytes.subarray(0, length));
    };
    const onEnd = (): void => {
      stop();
      reject(new Error(`ended after ${JSON.stringify(bytes.toString('latin1'))}`));
    };
    socket.on('data', onData).on('end', onEnd).on('error', onEnd).on('close', onEnd).resume();
  });

/** Exactly `count` bytes of what comes next. */
export const readBytes = (socket: Socket, count: number): Promise<Buffer> =>
  readUntil(socket, (bytes) => (bytes.length >= count ? count : undefined));

/** An HTTP head, with the empty line behind it. */
export const readHead = async (socket: Socket): Promise<string> => {
  const head = await readUntil(socket, (bytes) => {
    const end = bytes.indexOf('\r\n\r\n');
    return end === -1 ? undefined : end + 4;
  });
  return head.toString('latin1');
};

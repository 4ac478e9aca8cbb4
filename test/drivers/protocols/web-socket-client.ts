import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { WebSocket } from 'ws';

// Argument: a URL. Tells what came back over one WebSocket.

const MESSAGES = 500;
const BINARY_BYTES = 1_000_000;

const socket = new WebSocket(process.argv[2] ?? '');
const heard: { data: Buffer; isBinary: boolean }[] = [];
let wake = (): void => undefined;
socket.on('message', (data: Buffer, isBinary) => {
  heard.push({ data, isBinary });
  wake();
});
const hear = async (count: number): Promise<{ data: Buffer; isBinary: boolean }[]> => {
  while (heard.length < count) await new Promise<void>((resolve) => (wake = resolve));
  return heard.splice(0, count);
};

await once(socket, 'open');
console.log(socket.extensions);
const sent = Array.from({ length: MESSAGES }, (_, at) => `${at} ${randomBytes(at).toString('hex')}`);
for (const text of sent) socket.send(text);
const texts = await hear(MESSAGES);
const isSame = texts.every(({ data, isBinary }, at) => !isBinary && data.toString() === sent[at]);
console.log(`${isSame ? MESSAGES : 'not all'} messages came back in order`);

const bytes = randomBytes(BINARY_BYTES);
socket.send(bytes);
const [binary] = await hear(1);
console.log(
  `${binary?.isBinary === true && binary.data.equals(bytes) ? BINARY_BYTES : 'other'} bytes came back`,
);

socket.ping('are you there');
const [pong] = (await once(socket, 'pong')) as [Buffer];
console.log(pong.toString() === 'are you there' ? 'pong' : 'another pong');

const closed = once(socket, 'close') as Promise<[number, Buffer]>;
socket.send('push');
const [code, reason] = await closed;
const inOrder = heard.findIndex(({ data }, at) => data.toString() !== `pushed ${at}`);
console.log(`${inOrder === -1 ? heard.length : 'not all'} pushed in order, ${code} ${reason.toString()}`);

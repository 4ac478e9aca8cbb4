import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import fc from 'fast-check';
import { MAX_CLIENT_HELLO_BYTES, readClientHello } from '../../../src/protocol/carrier/client-hello.ts';
import {
  linkPreamble,
  MAX_PREAMBLE_BYTES,
  probePreamble,
  tokenProtocol,
} from '../../../src/protocol/carrier/preamble.ts';
import { sniff } from '../../../src/protocol/carrier/sniff.ts';

const TOKEN = '0123456789abcdef'.repeat(2);

/** The ClientHello that this Node really sends with these protocols. */
const clientHello = async (protocols: string[], servername?: string): Promise<Buffer> => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const client = connectTls({
    port,
    host: '127.0.0.1',
    ALPNProtocols: protocols,
    ...(servername === undefined ? {} : { servername }),
  });
  client.on('error', () => undefined);
  const [socket] = (await once(server, 'connection')) as [Socket];
  let bytes = Buffer.alloc(0);
  while (readClientHello(bytes).kind === 'more') {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    bytes = Buffer.concat([bytes, chunk]);
  }
  client.destroy();
  socket.destroy();
  server.close();
  return bytes;
};

const agentHello = await clientHello([tokenProtocol(TOKEN), 'sallyport.v1'], 'node.test');

/** The same handshake message over records of at most `size` bytes. */
const overRecords = (hello: Buffer, size: number): Buffer => {
  const message = hello.subarray(5);
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    const piece = message.subarray(at, at + size);
    const header = Buffer.from([22, 3, 1, 0, 0]);
    header.writeUInt16BE(piece.length, 3);
    records.push(header, piece);
  }
  return Buffer.concat(records);
};

test('a gateway is known by its preamble', () => {
  const line = linkPreamble(TOKEN);
  assert.ok(line.length <= MAX_PREAMBLE_BYTES);
  assert.deepEqual(sniff(Buffer.from(`${line}after`)), {
    kind: 'gateway',
    token: TOKEN,
    consumedBytes: line.length,
  });
});

test('an agent is known by its first ALPN entry', () => {
  assert.deepEqual(sniff(agentHello), { kind: 'agent', token: TOKEN });
});

test('a probe is known either way', async () => {
  assert.deepEqual(sniff(Buffer.from(probePreamble())), { kind: 'probe', consumedBytes: 18 });
  assert.deepEqual(sniff(await clientHello(['sp.probe'])), { kind: 'probe', consumedBytes: 0 });
});

test('everything else in TLS is the own HTTPS', async () => {
  for (const protocols of [['http/1.1'], ['h2', tokenProtocol(TOKEN)], [`sp.${'x'.repeat(32)}`], []]) {
    assert.deepEqual(sniff(await clientHello(protocols)), { kind: 'https' });
  }
});

test('however the bytes are cut, the answer is the same', () => {
  const whole = [Buffer.from(linkPreamble(TOKEN)), agentHello, overRecords(agentHello, 37)];
  for (const bytes of whole) {
    const answer = sniff(bytes);
    for (let cut = 0; cut < bytes.length; cut += 1) {
      assert.deepEqual(sniff(bytes.subarray(0, cut)), { kind: 'more' }, `cut at ${cut}`);
    }
    assert.notEqual(answer.kind, 'more');
  }
  assert.deepEqual(sniff(overRecords(agentHello, 37)), { kind: 'agent', token: TOKEN });
});

test('a ClientHello larger than one segment is read whole', async () => {
  const many = Array.from({ length: 300 }, (_, index) => `protocol-${index}`);
  const large = await clientHello([tokenProtocol(TOKEN), ...many]);
  assert.ok(large.length > 3_000);
  assert.deepEqual(sniff(large), { kind: 'agent', token: TOKEN });
});

test('what is too long or malformed is refused, never waited for', () => {
  const invalid = (bytes: Buffer): void => assert.equal(sniff(bytes).kind, 'invalid');
  invalid(Buffer.from('GET / HTTP/1.1\r\n'));
  invalid(Buffer.from(`SALLYPORT/1 link ${'A'.repeat(32)}\n`));
  invalid(Buffer.from(`SALLYPORT/1 link ${TOKEN} \n`));
  invalid(Buffer.from('S'.repeat(MAX_PREAMBLE_BYTES)));
  invalid(Buffer.from([22, 3, 1, 0, 4, 2, 0, 0, 0]));
  invalid(Buffer.from([22, 3, 1, 0, 0]));
  invalid(Buffer.from([22, 2, 0, 0, 5]));
  invalid(Buffer.from([22, 3, 1, 0, 4, 1, 1, 0, 0]));
  invalid(overRecords(Buffer.concat([Buffer.alloc(5), Buffer.from([1, 0, 1, 0]), Buffer.alloc(256)]), 1));
  const cutInside = Buffer.from(agentHello);
  cutInside.writeUInt16BE(0xffff, 5 + 4 + 2 + 32 + 1 + 32);
  invalid(cutInside);
  const endless = Buffer.alloc(MAX_CLIENT_HELLO_BYTES, 1);
  Buffer.from([22, 3, 1, 0xff, 0xff, 1, 0, 0x3f, 0xfc]).copy(endless);
  invalid(endless);
});

test('no bytes make it throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 512 }), fc.nat(512), (noise, at) => {
      sniff(Buffer.from(noise));
      const damaged = Buffer.from(agentHello);
      Buffer.from(noise).copy(damaged, Math.min(at, damaged.length - 1));
      sniff(damaged);
    }),
    { numRuns: 2_000 },
  );
});

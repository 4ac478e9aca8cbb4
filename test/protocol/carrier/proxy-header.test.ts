import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  MAX_PROXY_HEADER_BYTES,
  MAX_PROXY_LINE_BYTES,
  readProxyHeader,
} from '../../../src/protocol/carrier/proxy-header.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const SIGNATURE = '0d0a0d0a 000d0a51 5549540a';
const IPV4 = `${SIGNATURE} 21 11 000c c6336407 cb007109 1f90 01bb`;
const IPV6 = `${SIGNATURE} 21 21 0024 20010db8000000000000000000000007 20010db8000000000000000000000009 1f90 01bb`;

const header = (version: 1 | 2, consumedBytes: number, source?: string) => ({
  kind: 'header',
  version,
  consumedBytes,
  source,
});

test('version 2 vectors', () => {
  const cases: [string, string, ReturnType<typeof header>][] = [
    ['IPv4', IPV4, header(2, 28, '198.51.100.7')],
    ['IPv6', IPV6, header(2, 52, '2001:db8::7')],
    [
      'IPv4-mapped',
      `${SIGNATURE} 21 21 0024 00000000000000000000ffffc6336407 00000000000000000000ffffcb007109 1f90 01bb`,
      header(2, 52, '198.51.100.7'),
    ],
    [
      'TLVs (ALPN h2, no-op) are skipped',
      `${SIGNATURE} 21 11 0015 c6336407 cb007109 1f90 01bb 010002 6832 04000100`,
      header(2, 37, '198.51.100.7'),
    ],
    ['LOCAL', `${SIGNATURE} 20 00 0000`, header(2, 16)],
    ['LOCAL with addresses: ignored', IPV4.replace(' 21 11', ' 20 11'), header(2, 28)],
    ['LOCAL of an unknown family', `${SIGNATURE} 20 ff 0002 abcd`, header(2, 18)],
    ['UNSPEC', `${SIGNATURE} 21 00 0003 aabbcc`, header(2, 19)],
    ['UNIX', `${SIGNATURE} 21 31 00d8 ${'61'.repeat(216)}`, header(2, 232)],
  ];
  for (const [what, text, reading] of cases) {
    assert.deepEqual(readProxyHeader(hex(text)), reading, what);
    assert.deepEqual(readProxyHeader(Buffer.concat([hex(text), Buffer.from('PROXY ')])), reading, what);
  }
});

test('version 1 lines', () => {
  const cases: [string, string | undefined][] = [
    ['PROXY TCP4 198.51.100.7 203.0.113.9 8080 443\r\n', '198.51.100.7'],
    ['PROXY TCP6 2001:DB8::7 2001:db8::9 8080 443\r\n', '2001:db8::7'],
    ['PROXY TCP6 ::ffff:198.51.100.7 ::1 8080 443\r\n', '198.51.100.7'],
    ['PROXY UNKNOWN\r\n', undefined],
    ['PROXY UNKNOWN 198.51.100.7 whatever\r\n', undefined],
  ];
  for (const [line, source] of cases) {
    assert.deepEqual(
      readProxyHeader(Buffer.from(`${line}SALLYPORT/1`)),
      header(1, line.length, source),
      line,
    );
  }
});

test('what is no header, and what is a broken one', () => {
  const none = [
    'SALLYPORT/1 probe\n',
    '\x16\x03\x01',
    'POST / HTTP/1.1',
    '\r\n\r\nGET',
    'PROXYTCP4',
    ' PROXY ',
  ];
  for (const text of none) assert.deepEqual(readProxyHeader(Buffer.from(text)), { kind: 'none' }, text);
  const broken: [Buffer, RegExp][] = [
    [hex(`${SIGNATURE} 11 11 000c c6336407 cb007109 1f90 01bb`), /0x11 are not of version 2/],
    [hex(`${SIGNATURE} 22 11 000c`), /0x22 are not of version 2/],
    [hex(`${SIGNATURE} 21 12 000c`), /0x12 are no stream/],
    [hex(`${SIGNATURE} 21 41 000c`), /0x41 are no stream/],
    [hex(`${SIGNATURE} 21 11 000b`), /11 bytes of addresses, the family has 12/],
    [hex(`${SIGNATURE} 21 21 0023`), /35 bytes of addresses, the family has 36/],
    [hex(`${SIGNATURE} 21 11 0ff1`), /header of 4097 bytes is longer than 4096/],
    [hex(`${SIGNATURE} 20 00 ffff`), /header of 65551 bytes is longer than 4096/],
    [Buffer.from('PROXY TCP4 198.51.100.7 203.0.113.9 8080 65536\r\n'), /malformed version 1 line/],
    [Buffer.from('PROXY TCP4 198.51.100.7  203.0.113.9 8080 443\r\n'), /malformed version 1 line/],
    [Buffer.from('PROXY TCP4 198.51.100.7 203.0.113.9 8080\r\n'), /malformed version 1 line/],
    [Buffer.from('PROXY UDP4 198.51.100.7 203.0.113.9 1 2\r\n'), /malformed version 1 line/],
    [Buffer.from('PROXY UNKNOWNX\r\n'), /malformed version 1 line/],
    [Buffer.from('PROXY TCP6 198.51.100.7 203.0.113.9 1 2\r\n'), /without two addresses of TCP6/],
    [Buffer.from('PROXY TCP4 2001:db8::7 2001:db8::9 1 2\r\n'), /without two addresses of TCP4/],
    [Buffer.from('PROXY TCP4 198.51.100.256 203.0.113.9 1 2\r\n'), /without two addresses of TCP4/],
    [Buffer.from(`PROXY UNKNOWN ${'x'.repeat(MAX_PROXY_LINE_BYTES)}`), /longer than 107 bytes/],
  ];
  for (const [bytes, detail] of broken) {
    const reading = readProxyHeader(bytes);
    assert.match(reading.kind === 'invalid' ? reading.detail : reading.kind, detail, String(bytes));
  }
});

test('however a header is cut, every shorter beginning asks for more and holds nothing beyond its bound', () => {
  const longest = MAX_PROXY_HEADER_BYTES - 16;
  const tlvs = Buffer.alloc(longest - 12, 4);
  const big = Buffer.concat([
    hex(`${SIGNATURE} 21 11 ${longest.toString(16).padStart(4, '0')} c6336407 cb007109 1f90 01bb`),
    tlvs,
  ]);
  assert.deepEqual(readProxyHeader(big), header(2, MAX_PROXY_HEADER_BYTES, '198.51.100.7'));
  for (const whole of [
    hex(IPV4),
    hex(IPV6),
    big,
    Buffer.from('PROXY TCP4 198.51.100.7 203.0.113.9 8080 443\r\n'),
  ]) {
    for (let length = 1; length < whole.length; length += 1)
      assert.deepEqual(readProxyHeader(whole.subarray(0, length)), { kind: 'more' }, String(length));
  }
});

test('no bytes make it throw, and it never takes more than there is', () => {
  const start = fc.constantFrom(
    Buffer.alloc(0),
    hex(SIGNATURE),
    hex(`${SIGNATURE} 21`),
    Buffer.from('PROXY '),
    Buffer.from('PROXY TCP4 1'),
  );
  fc.assert(
    fc.property(start, fc.uint8Array({ minLength: 1, maxLength: 300 }), (first, rest) => {
      const bytes = Buffer.concat([first, rest]);
      const reading = readProxyHeader(bytes);
      if (reading.kind === 'header') assert.ok(reading.consumedBytes <= bytes.length);
      if (reading.kind === 'more') assert.ok(bytes.length < MAX_PROXY_HEADER_BYTES);
    }),
    { numRuns: 2_000 },
  );
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type HandshakeState, Socks5Handshake } from '../../../src/gateway/entrance/socks5-handshake.ts';
import { Users } from '../../../src/gateway/entrance/users.ts';
import {
  GREETING,
  GREETING_WITH_LOGIN,
  loginOf,
  METHOD_NONE,
  replyOf,
  requestFor,
  requestForIpv4,
  requestForIpv6,
} from './client-words.ts';

const PASSWORD = 'a password of the tests';
const users = new Users([{ name: 'app', password: PASSWORD }]);

interface Told {
  /** Everything that it answered, as hex. */
  readonly answers: string;
  readonly state: HandshakeState;
  /** What came after it had made up its mind. */
  readonly after: Buffer;
}

/** Gives the chunks one after the other, until it has made up its mind. */
const tell = (chunks: readonly Buffer[], known?: Users): Told => {
  const handshake = new Socks5Handshake(known);
  let answers = '';
  for (const [index, chunk] of chunks.entries()) {
    const { answer, state } = handshake.push(chunk);
    answers += answer.toString('hex');
    if (state.kind !== 'more') return { answers, state, after: Buffer.concat(chunks.slice(index + 1)) };
  }
  return { answers, state: { kind: 'more' }, after: Buffer.alloc(0) };
};

const connects = (
  told: Told,
  expected: { host: string; port: number; user?: string; rest: string },
): void => {
  assert.ok(told.state.kind === 'connect', told.state.kind);
  const { host, port, user, rest } = told.state;
  const all = Buffer.concat([rest, told.after]).toString('latin1');
  assert.deepEqual({ host, port, user, rest: all }, { user: undefined, ...expected });
};

const conversations = [
  {
    name: 'a name',
    bytes: Buffer.concat([GREETING, requestFor('sql01.corp.example', 1433), Buffer.from('SELECT 1')]),
    known: undefined,
    answers: METHOD_NONE,
    expected: { host: 'sql01.corp.example', port: 1433, rest: 'SELECT 1' },
  },
  {
    name: 'an IPv4 address',
    bytes: Buffer.concat([GREETING, requestForIpv4('10.1.2.3', 65_535)]),
    known: undefined,
    answers: METHOD_NONE,
    expected: { host: '10.1.2.3', port: 65_535, rest: '' },
  },
  {
    name: 'an IPv6 address',
    bytes: Buffer.concat([GREETING, requestForIpv6('fd000000000000000000000000000007', 1), Buffer.from([0])]),
    known: undefined,
    answers: METHOD_NONE,
    expected: { host: 'fd00::7', port: 1, rest: '\0' },
  },
  {
    name: 'a login, and a name beyond ASCII',
    bytes: Buffer.concat([
      Buffer.from([5, 3, 0, 1, 2]),
      loginOf('app', PASSWORD),
      requestFor('bücher.example', 443),
      Buffer.from('hello'),
    ]),
    known: users,
    answers: '05020100',
    expected: { host: 'bücher.example', port: 443, user: 'app', rest: 'hello' },
  },
];

for (const { name, bytes, known, answers, expected } of conversations) {
  test(`${name}: cut in two at every place, byte by byte, and all at once`, () => {
    for (let at = 0; at <= bytes.length; at += 1) {
      const told = tell([bytes.subarray(0, at), bytes.subarray(at)], known);
      connects(told, expected);
      assert.equal(told.answers, answers);
    }
    const told = tell(
      [...bytes].map((byte) => Buffer.from([byte])),
      known,
    );
    connects(told, expected);
    assert.equal(told.answers, answers);
  });
}

/** Cuts bytes at the given places. */
const cut = (bytes: Buffer, places: readonly number[]): Buffer[] => {
  const at = [...new Set([0, ...places.map((place) => place % (bytes.length + 1)), bytes.length])].sort(
    (a, b) => a - b,
  );
  return at.slice(1).map((end, index) => bytes.subarray(at[index] ?? 0, end));
};

test('however a conversation is cut, it comes to the same', () => {
  const host = fc.stringMatching(/^[a-z0-9.-]{1,255}$/);
  fc.assert(
    fc.property(
      host,
      fc.integer({ min: 0, max: 65_535 }),
      fc.uint8Array({ maxLength: 40 }),
      fc.boolean(),
      fc.array(fc.nat(), { maxLength: 12 }),
      (name, port, behind, withLogin, places) => {
        const bytes = Buffer.concat([
          withLogin ? GREETING_WITH_LOGIN : GREETING,
          withLogin ? loginOf('app', PASSWORD) : Buffer.alloc(0),
          requestFor(name, port),
          behind,
        ]);
        const told = tell(cut(bytes, places), withLogin ? users : undefined);
        const rest = Buffer.from(behind).toString('latin1');
        connects(told, { host: name, port, rest, ...(withLogin ? { user: 'app' } : {}) });
        assert.equal(told.answers, withLogin ? '05020100' : METHOD_NONE);
      },
    ),
    { numRuns: 500 },
  );
});

test('whatever bytes come, cut or whole, it answers the same, bounded, and never throws', () => {
  const start = fc.constantFrom(Buffer.alloc(0), GREETING, Buffer.concat([GREETING, Buffer.from([5, 1, 0])]));
  fc.assert(
    fc.property(
      start,
      fc.uint8Array({ maxLength: 700 }),
      fc.boolean(),
      fc.array(fc.nat(), { maxLength: 8 }),
      (before, bytes, withUsers, places) => {
        const all = Buffer.concat([before, bytes]);
        const known = withUsers ? users : undefined;
        const whole = tell([all], known);
        const parts = tell(cut(all, places), known);
        assert.equal(parts.answers, whole.answers);
        assert.equal(parts.state.kind, whole.state.kind);
        assert.ok(whole.answers.length <= 2 * (2 + 2 + 10));
        // The longest conversation is 257 + 513 + 262 bytes: nobody is listened to beyond it.
        if (all.length > 1_032) assert.notEqual(whole.state.kind, 'more');
      },
    ),
    { numRuns: 2_000 },
  );
});

const refusals: {
  name: string;
  bytes: Buffer;
  known?: Users;
  answers: string;
  cause: string;
  detail: RegExp;
}[] = [
  {
    name: 'SOCKS 4',
    bytes: Buffer.from([4, 1, 0, 80, 10, 0, 0, 1, 0]),
    answers: '',
    cause: 'malformed',
    detail: /first byte 0x04 is not SOCKS version 5/,
  },
  {
    name: 'HTTP',
    bytes: Buffer.from('CONNECT a:1 HTTP/1.1\r\n\r\n'),
    answers: '',
    cause: 'malformed',
    detail: /0x43/,
  },
  {
    name: 'a greeting without methods',
    bytes: Buffer.from([5, 0]),
    answers: '05ff',
    cause: 'unsupported',
    detail: /insists on a login/,
  },
  {
    name: 'a greeting with GSSAPI and login only',
    bytes: Buffer.from([5, 2, 1, 2]),
    answers: '05ff',
    cause: 'unsupported',
    detail: /has no users/,
  },
  {
    name: 'no login where there are users',
    bytes: GREETING,
    known: users,
    answers: '05ff',
    cause: 'unauthenticated',
    detail: /offers no login/,
  },
  {
    name: 'a wrong password',
    bytes: Buffer.concat([GREETING_WITH_LOGIN, loginOf('app', `${PASSWORD}x`), requestFor('a', 1)]),
    known: users,
    answers: '05020101',
    cause: 'unauthenticated',
    detail: /wrong name or password/,
  },
  {
    name: 'an unknown user',
    bytes: Buffer.concat([GREETING_WITH_LOGIN, loginOf('toString', PASSWORD)]),
    known: users,
    answers: '05020101',
    cause: 'unauthenticated',
    detail: /wrong name or password/,
  },
  {
    name: 'an empty name and password',
    bytes: Buffer.concat([GREETING_WITH_LOGIN, loginOf('', '')]),
    known: users,
    answers: '05020101',
    cause: 'unauthenticated',
    detail: /wrong name or password/,
  },
  {
    name: 'another version of the login',
    bytes: Buffer.concat([GREETING_WITH_LOGIN, Buffer.from([5, 0, 0])]),
    known: users,
    answers: '0502',
    cause: 'malformed',
    detail: /login version 0x05/,
  },
  {
    name: 'BIND',
    bytes: Buffer.concat([GREETING, requestFor('a', 1, 2)]),
    answers: METHOD_NONE + replyOf(7),
    cause: 'unsupported',
    detail: /command BIND/,
  },
  {
    name: 'UDP ASSOCIATE',
    bytes: Buffer.concat([GREETING, requestFor('a', 1, 3)]),
    answers: METHOD_NONE + replyOf(7),
    cause: 'unsupported',
    detail: /command UDP ASSOCIATE/,
  },
  {
    name: 'a command that nobody knows',
    bytes: Buffer.concat([GREETING, requestFor('a', 1, 0xf0)]),
    answers: METHOD_NONE + replyOf(7),
    cause: 'unsupported',
    detail: /command 0xf0/,
  },
  {
    name: 'an address type that nobody knows',
    bytes: Buffer.concat([GREETING, Buffer.from([5, 1, 0, 2])]),
    answers: METHOD_NONE + replyOf(8),
    cause: 'unsupported',
    detail: /address type 0x02/,
  },
  {
    name: 'a request of another version',
    bytes: Buffer.concat([GREETING, Buffer.from([4])]),
    answers: METHOD_NONE + replyOf(1),
    cause: 'malformed',
    detail: /request version 0x04/,
  },
  {
    name: 'a reserved byte that is not zero',
    bytes: Buffer.concat([GREETING, Buffer.from([5, 1, 1, 1])]),
    answers: METHOD_NONE + replyOf(1),
    cause: 'malformed',
    detail: /reserved byte 0x01/,
  },
  {
    name: 'a name that is not UTF-8',
    bytes: Buffer.concat([GREETING, Buffer.from([5, 1, 0, 3, 2, 0xc3, 0x28, 0, 1])]),
    answers: METHOD_NONE + replyOf(1),
    cause: 'malformed',
    detail: /not UTF-8/,
  },
];

for (const { name, bytes, known, answers, cause, detail } of refusals) {
  test(`${name} is refused with the right words`, () => {
    for (const chunks of [[bytes], [...bytes].map((byte) => Buffer.from([byte]))]) {
      const told = tell(chunks, known);
      assert.equal(told.answers, answers);
      assert.ok(told.state.kind === 'refused', told.state.kind);
      assert.equal(told.state.cause, cause);
      assert.match(told.state.detail, detail);
      assert.doesNotMatch(told.state.detail, new RegExp(PASSWORD));
    }
  });
}

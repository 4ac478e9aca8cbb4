import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { eventText, originText } from '../../src/audit/event/envelope.ts';
import { EVENT_TYPES } from '../../src/audit/event/event-type.ts';
import type { SinkEvent } from '../../src/audit/sink/backlog.ts';
import { OtlpRecords } from '../../src/audit/sink/otlp-record.ts';
import { otlpSinkSchema, syslogSinkSchema } from '../../src/audit/sink/sink-settings.ts';
import { cutUtf8, octetCounted, syslogMessage } from '../../src/audit/sink/syslog-message.ts';
import type { AuditEventInput } from '../../src/audit/index.ts';
import { decision } from './audit-fixture.ts';
import { RECHECK_VECTOR, VECTORS } from './event-vectors.ts';

const CHAIN = '019ab000-0000-7000-8000-000000000001';
const ID = '019ab000-0000-7000-8000-000000000002';
const AT = '2026-01-02T03:04:05.678Z';
const settings = syslogSinkSchema.parse({ address: 'siem.example:6514' });
const origin = originText({
  kind: 'agent',
  name: 'agent-1',
  instance: 'instance-1',
  namespace: 'relay.example.com',
  version: '0.1.0',
});

const eventOf = (input: AuditEventInput, seq = 7): SinkEvent => ({
  chain: CHAIN,
  seq,
  canonical: Buffer.from(eventText(input, ID, Date.parse(AT), { chain: CHAIN, origin })),
  segment: 1,
  to: 0,
});

/** RFC 5424 §6: header, structured data with its escapes, text. */
const GRAMMAR =
  /^<(\d{1,3})>1 (\S+) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) (\[[^ "=\]]{1,32}(?: [^ "=\]]{1,32}="(?:\\["\\\]]|[^"\\\]])*")*\]) ?(.*)$/s;

const read = (message: Buffer): string[] => {
  const fields = GRAMMAR.exec(message.toString('utf8'));
  assert.ok(fields !== null, message.toString('utf8'));
  return fields.slice(1);
};

test('a message of RFC 5424 has facility and severity, time, process, type, fields and the event', () => {
  const event = eventOf(decision(1, false));
  const [pri, at, host, app, process, type, data, text] = read(syslogMessage(event, settings, 'host one'));
  assert.deepEqual(
    [pri, at, host, app, process, type],
    ['110', AT, 'host_one', 'sallyport-agent', 'instance-1', 'stream.decision'],
  );
  assert.match(data ?? '', /^\[sallyport@32473 chain="[^"]+" seq="7" id="[^"]+" origin="agent\/agent-1" /);
  for (const field of [
    'reason="policy_denied"',
    'action="denied"',
    'connection="orders-db"',
    'principal="orders-app"',
    'target_host="sql01.corp.example"',
    'target_port="1433"',
    'source_addr="203.0.113.7"',
  ])
    assert.ok(data?.includes(` ${field}`), field);
  assert.deepEqual(Buffer.from(text ?? ''), event.canonical);
});

test('each type is a message whose severity follows from its own', () => {
  const SYSLOG: Readonly<Record<number, number>> = { 1: 6, 2: 5, 3: 4, 4: 3, 5: 2 };
  const OTEL: Readonly<Record<number, number>> = { 1: 9, 2: 10, 3: 13, 4: 17, 5: 21 };
  const records = new OtlpRecords('host');
  assert.equal(VECTORS.length, Object.keys(EVENT_TYPES).length);
  for (const vector of VECTORS) {
    const { type } = vector;
    const event = eventOf(vector);
    const { severity } = EVENT_TYPES[type];
    const [pri, , , , , id] = read(syslogMessage(event, settings, 'host'));
    assert.deepEqual([Number(pri) % 8, Math.floor(Number(pri) / 8), id], [SYSLOG[severity], 13, type]);
    const record = records.of(event, 5_000);
    assert.deepEqual([record.severityNumber, record.eventName], [OTEL[severity], `sallyport.${type}`]);
  }
});

test('a line for people names what happened, to whom, where to and why', () => {
  const short = { ...settings, format: 'short' as const };
  const [, , , , , , , text] = read(syslogMessage(eventOf(decision(1, false)), short, 'host'));
  assert.equal(
    text,
    'stream.decision denied orders-db by orders-app to sql01.corp.example:1433 from 203.0.113.7 (policy_denied)',
  );
  assert.match(
    read(syslogMessage(eventOf(RECHECK_VECTOR), short, 'host'))[7] ?? '',
    /^stream\.decision denied at a re-check orders-db by /,
  );
});

test('whatever names hold, the grammar holds, the limit holds and no character is cut', () => {
  const awkward = fc.constantFrom('"', '\\', ']', '\n', '\u001b', '=', ' ', 'é', '😀');
  const name = fc.string({
    unit: fc.oneof(awkward, fc.string({ unit: 'binary', minLength: 1, maxLength: 1 })),
    maxLength: 1_500,
  });
  fc.assert(
    fc.property(name, name, fc.integer({ min: 2_048, max: 9_000 }), (principal, host, maxBytes) => {
      const base = decision(1);
      const event = eventOf({
        ...base,
        subject: { ...base.subject, principal, target_host: host },
      });
      const message = syslogMessage(event, { ...settings, max_message_bytes: maxBytes }, host);
      assert.ok(message.length <= maxBytes);
      assert.equal(Buffer.from(message.toString('utf8'), 'utf8').compare(message), 0);
      const [, , , , , , data, text = ''] = read(message);
      assert.ok(data?.includes(` chain="${CHAIN}" seq="7"`));
      assert.doesNotMatch(data ?? '', /\p{Cc}/u);
      const whole = event.canonical.toString('utf8');
      assert.ok(whole.startsWith(text));
      assert.equal(data?.includes(` cut="${event.canonical.length}"`), text !== whole);
    }),
    { numRuns: 100 },
  );
});

test('a cut text ends with a whole character', () => {
  const text = Buffer.from('aé€😀');
  const ends = Array.from({ length: text.length + 1 }, (_, n) => cutUtf8(text, n).toString('utf8'));
  assert.deepEqual(ends, ['', 'a', 'a', 'aé', 'aé', 'aé', 'aé€', 'aé€', 'aé€', 'aé€', 'aé€😀']);
});

test('octets are counted, not characters', () => {
  assert.equal(octetCounted(Buffer.from('<13>é')).toString('utf8'), '6 <13>é');
});

test('what is no event is told by its place', () => {
  const event = { chain: CHAIN, seq: 9, canonical: Buffer.from('no json'), segment: 1, to: 0 };
  const [pri, at, , app, , type, data, text] = read(syslogMessage(event, settings, 'host'));
  assert.deepEqual([pri, at, app, type, text], ['110', '-', 'sallyport-process', 'unknown', 'no json']);
  assert.equal(data, `[sallyport@32473 chain="${CHAIN}" seq="9"]`);
  assert.equal(new OtlpRecords('host').of(event, 5_000).attributes['sallyport.seq'], 9);
});

test('settings that cannot work are refused', () => {
  const refusals: readonly [object, RegExp][] = [
    [{ address: 'siem.example' }, /6514/],
    [{ address: 'siem.example:6514', client_cert_file: 'c.pem' }, /go together/],
    [{ address: 'siem.example:6514', max_message_bytes: 1_024 }, /2048/],
    [{ address: 'siem.example:6514', structured_data_id: 'sallyport' }, /ENTERPRISE/],
  ];
  for (const [given, problem] of refusals)
    assert.match(String(syslogSinkSchema.safeParse(given).error), problem);
  for (const endpoint of [
    'http://collector.example/v1/logs',
    'https://user:pw@collector.example/v1/logs',
    'x',
  ])
    assert.equal(otlpSinkSchema.safeParse({ endpoint }).success, false, endpoint);
  assert.equal(otlpSinkSchema.safeParse({ endpoint: 'http://127.0.0.1:4318/v1/logs' }).success, true);
});

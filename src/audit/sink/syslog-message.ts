import type { SinkEvent } from './backlog.ts';
import { type EventFacts, factsOf } from './event-facts.ts';
import type { SyslogSettings } from './sink-settings.ts';

const NIL = '-';
const VERSION = 1;
/** RFC 5424 §6.2.1: eight severities to a facility. */
const SEVERITIES = 8;
/** From OCSF's severities, 1 to 5: informational, notice, warning, error, critical. */
const SEVERITY = [6, 6, 5, 4, 3, 2] as const;
/** Longest fields of the header (RFC 5424 §6). */
const MAX_HOST = 255;
const MAX_APP = 48;
const MAX_PROCESS = 128;
const MAX_MESSAGE_ID = 32;
/** Header and structured data take at most this part of a message, so that something of the text is left. */
const MAX_HEAD_PART = 0.5;
/** Bytes that are kept for saying that a text was cut. */
const CUT_BYTES = 24;

export type MessageSettings = Pick<
  SyslogSettings,
  'facility' | 'structured_data_id' | 'format' | 'max_message_bytes'
>;

/** A header field: PRINTUSASCII and nothing else (RFC 5424 §6). */
const headerField = (text: string | undefined, maxLength: number): string =>
  (text ?? '').replaceAll(/[^\x21-\x7e]/g, '_').slice(0, maxLength) || NIL;

/** Control characters say nothing in a field and something to a terminal. */
const withoutControls = (text: string): string => text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, ' ');

/** RFC 5424 §6.3.3: `"`, `\` and `]` are escaped. */
const parameter = (name: string, value: string | number): string =>
  ` ${name}="${withoutControls(String(value)).replaceAll(/["\\\]]/g, String.raw`\$&`)}"`;

/** The first `maxBytes` bytes, less those of a character that would be cut. */
export const cutUtf8 = (bytes: Buffer, maxBytes: number): Buffer => {
  if (bytes.length <= maxBytes) return bytes;
  let end = maxBytes;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.subarray(0, end);
};

/** A line for people: what happened, to whom, where to, and why. */
const shortText = ({ envelope, type, reason, fields }: EventFacts): string => {
  const of = (name: string): string => String(fields.get(name) ?? '');
  const host = of('target_host') || of('target_addr');
  const parts = [
    type,
    of('action'),
    envelope?.data['recheck'] === true ? 'at a re-check' : '',
    of('connection'),
    of('principal') && `by ${of('principal')}`,
    host && `to ${host}${fields.has('target_port') ? `:${of('target_port')}` : ''}`,
    of('source_addr') && `from ${of('source_addr')}`,
    reason === undefined ? '' : `(${reason})`,
  ];
  return withoutControls(parts.filter((part) => part !== '').join(' '));
};

/**
 * The RFC 5424 message of an event, at most `max_message_bytes` long. Fields that would take more than half of it are
 * left out; a text that is too long is cut between two characters, and `cut` says how many bytes it had. The text has
 * no byte order mark: it is MSG-ANY of RFC 5424 §6.4, which JSON readers take.
 */
export const syslogMessage = (event: SinkEvent, settings: MessageSettings, hostName: string): Buffer => {
  const facts = factsOf(event);
  const { origin } = facts.envelope ?? {};
  const maxBytes = settings.max_message_bytes;
  const header = [
    `<${settings.facility * SEVERITIES + (SEVERITY[facts.severity] ?? SEVERITY[1])}>${VERSION}`,
    facts.at ?? NIL,
    headerField(hostName, MAX_HOST),
    headerField(`sallyport-${origin?.kind ?? 'process'}`, MAX_APP),
    headerField(origin?.instance, MAX_PROCESS),
    headerField(facts.type, MAX_MESSAGE_ID),
  ].join(' ');
  let data = `[${settings.structured_data_id}`;
  let headBytes = Buffer.byteLength(header) + data.length;
  const add = (name: string, value: string | number): void => {
    const text = parameter(name, value);
    const bytes = Buffer.byteLength(text);
    if (headBytes + bytes > maxBytes * MAX_HEAD_PART) return;
    data += text;
    headBytes += bytes;
  };
  add('chain', event.chain);
  add('seq', event.seq);
  if (facts.envelope !== undefined) add('id', facts.envelope.id);
  if (origin?.name !== undefined) add('origin', `${origin.kind ?? ''}/${origin.name}`);
  if (facts.reason !== undefined) add('reason', facts.reason);
  for (const [name, value] of facts.fields) add(name, value);
  const text = settings.format === 'json' ? event.canonical : Buffer.from(shortText(facts));
  const head = (cut: string): Buffer => Buffer.from(`${header} ${data}${cut}] `);
  const whole = head('');
  if (whole.length + text.length <= maxBytes) return Buffer.concat([whole, text]);
  const short = head(parameter('cut', text.length));
  return Buffer.concat([short, cutUtf8(text, maxBytes - Math.max(short.length, headBytes + CUT_BYTES))]);
};

/** A message with its length before it (RFC 5425 §4.3). */
export const octetCounted = (message: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${message.length} `, 'ascii'), message]);

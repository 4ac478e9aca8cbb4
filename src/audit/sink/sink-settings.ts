import { z } from 'zod';
import { isAppError, parseHostPort } from '../../runtime/index.ts';

/** RFC 5425 §4.3.1: receivers must take 2048 bytes and should take 8192. */
const MIN_MESSAGE_BYTES = 2_048;
const DEFAULT_MESSAGE_BYTES = 8_192;
const MAX_MESSAGE_BYTES = 1024 * 1024;
/** RFC 5424 §6.2.1: log audit. */
const AUDIT_FACILITY = 13;
const MAX_FACILITY = 23;
/** 32473 is the private enterprise number that RFC 5612 sets aside for documentation. */
const DEFAULT_SD_ID = 'sallyport@32473';
const DEFAULT_CONFIRM_SECONDS = 30;
const MAX_CONFIRM_SECONDS = 3_600;
const DEFAULT_TIMEOUT_SECONDS = 10;
const MAX_TIMEOUT_SECONDS = 300;
/** What one sink that is away may keep on disk. */
export const DEFAULT_BACKLOG_BYTES = 256 * 1024 * 1024;

const isHostPort = (text: string): boolean => {
  try {
    return parseHostPort(text).port > 0;
  } catch (thrown) {
    if (isAppError(thrown)) return false;
    throw thrown;
  }
};

const file = z.string().min(1);

/** How the other end is known, and this one to it; the files are read at each connection. */
const tlsFields = {
  /** Certificates that vouch for the server; default: the system's. */
  ca_file: file.optional(),
  client_cert_file: file.optional(),
  client_key_file: file.optional(),
  /** The name that its certificate must have, where it is not the one that is dialled. */
  server_name: z.string().min(1).optional(),
};

const hasWholePair = (tls: {
  client_cert_file?: string | undefined;
  client_key_file?: string | undefined;
}): boolean => (tls.client_cert_file === undefined) === (tls.client_key_file === undefined);

const HALF_PAIR = {
  path: ['client_cert_file'],
  message: 'client_cert_file and client_key_file go together',
};

/** `audit.syslog`: RFC 5424 messages over TLS (RFC 5425). */
export const syslogSinkSchema = z
  .strictObject({
    address: z.string().refine(isHostPort, 'an address HOST:PORT; the port of syslog over TLS is 6514'),
    ...tlsFields,
    facility: z.int().min(0).max(MAX_FACILITY).default(AUDIT_FACILITY),
    /** The SD-ID of the element that holds what an event is about: `name@` and your own enterprise number. */
    structured_data_id: z
      .string()
      .regex(/^[A-Za-z0-9_.-]{1,20}@\d{1,10}$/, 'NAME@ENTERPRISE-NUMBER, at most 32 characters')
      .max(32)
      .default(DEFAULT_SD_ID),
    /** Of the message's text: the event's canonical JSON, or a line for people. */
    format: z.enum(['json', 'short']).default('json'),
    max_message_bytes: z.int().min(MIN_MESSAGE_BYTES).max(MAX_MESSAGE_BYTES).default(DEFAULT_MESSAGE_BYTES),
    /** A connection is ended in order after this time, which is how the receiver confirms what it carried. */
    confirm_seconds: z.number().positive().max(MAX_CONFIRM_SECONDS).default(DEFAULT_CONFIRM_SECONDS),
  })
  .refine(hasWholePair, HALF_PAIR);

const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host);

const isEndpoint = (text: string): boolean => {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username, password, hash } = new URL(text);
  const isPlain = username === '' && password === '' && hash === '';
  return isPlain && (protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname)));
};

/** `audit.otlp`: OTLP/HTTP log records, as protobuf. */
export const otlpSinkSchema = z
  .strictObject({
    /** The whole address, as `https://collector.example:4318/v1/logs`. */
    endpoint: z
      .string()
      .refine(isEndpoint, 'an https address without user, password and fragment (http on loopback only)'),
    ...tlsFields,
    /** Lines `Name: value`, sent with each request and read at each, so that a token may be renewed in place. */
    headers_file: file.optional(),
    timeout_seconds: z.number().positive().max(MAX_TIMEOUT_SECONDS).default(DEFAULT_TIMEOUT_SECONDS),
  })
  .refine(hasWholePair, HALF_PAIR);

/** Members of `audit` in agent.yaml and relay.yaml that name live sinks. */
export const sinkFields = {
  syslog: syslogSinkSchema.optional(),
  otlp: otlpSinkSchema.optional(),
  /** Most bytes of spool segments that are kept for live sinks alone, within `max_spool_bytes`. */
  sink_backlog_bytes: z.int().nonnegative().default(DEFAULT_BACKLOG_BYTES),
};

export type SyslogSettings = Readonly<z.output<typeof syslogSinkSchema>>;
export type OtlpSettings = Readonly<z.output<typeof otlpSinkSchema>>;

/** Live sinks of one process; what is absent is not fed. */
export interface SinkSettings {
  readonly syslog?: SyslogSettings | undefined;
  readonly otlp?: OtlpSettings | undefined;
  readonly backlogBytes?: number | undefined;
}

/** The live sinks of an `audit` section. */
export const sinksOf = (audit: {
  syslog?: SyslogSettings | undefined;
  otlp?: OtlpSettings | undefined;
  sink_backlog_bytes: number;
}): SinkSettings | undefined =>
  audit.syslog === undefined && audit.otlp === undefined
    ? undefined
    : { syslog: audit.syslog, otlp: audit.otlp, backlogBytes: audit.sink_backlog_bytes };

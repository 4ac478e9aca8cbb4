import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startBackground } from '../support/background.ts';
import { projectRoot } from '../support/command.ts';
import { PYTHON } from '../support/python.ts';
import type { Closer } from '../support/temporary.ts';

const PROGRAM = join(projectRoot, 'tools/python/otlp-receiver.py');

/** A log record as OpenTelemetry's own protobuf classes read it. */
export interface OtlpLine {
  readonly path: string;
  readonly authorization: string | null;
  readonly contentType: string;
  readonly resource: Readonly<Record<string, string>>;
  readonly scope: { readonly name: string; readonly version: string };
  readonly timeUnixNano: string;
  readonly observedTimeUnixNano: string;
  readonly severityNumber: number;
  readonly severityText: string;
  readonly eventName: string;
  readonly attributes: Readonly<Record<string, string | number>>;
  readonly body: string;
}

export interface OtlpReceiver {
  readonly endpoint: string;
  lines(): OtlpLine[];
  behave(how: { status?: number; code?: number; reject?: string; refuse?: string }): void;
}

/** A receiver of OTLP/HTTP over TLS that decodes with OpenTelemetry's own classes. */
export const startOtlp = async (
  t: Closer,
  directory: string,
  certificate: { certFile: string; keyFile: string },
): Promise<OtlpReceiver> => {
  const out = join(directory, 'received.jsonl');
  const behaviour = join(directory, 'behaviour.json');
  const { certFile, keyFile } = certificate;
  const process = startBackground(t, PYTHON, [PROGRAM, out, certFile, keyFile, behaviour]);
  const [, port = ''] = await process.said(/port (\d+)/);
  return {
    endpoint: `https://localhost:${port}/v1/logs`,
    lines() {
      if (!existsSync(out)) return [];
      const text = readFileSync(out, 'utf8');
      return text
        .slice(0, text.lastIndexOf('\n') + 1)
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as OtlpLine);
    },
    behave(how) {
      writeFileSync(`${behaviour}.new`, JSON.stringify(how));
      renameSync(`${behaviour}.new`, behaviour);
    },
  };
};

import { z } from 'zod';
import { isServiceAddress, SERVICE_ADDRESS_FORM } from '../../runtime/index.ts';
import type { CheckpointService } from './url-place.ts';

/** audit.md: every five minutes. */
const DEFAULT_EVERY_SECONDS = 300;
const MAX_EVERY_SECONDS = 86_400;
const SECOND_MS = 1_000;

/** How `checkpoint_url` is asked. The files are read at each request, so that they may be renewed in place. */
const serviceSchema = z
  .strictObject({
    /** Sent as `Authorization: Bearer`. */
    token_file: z.string().min(1).optional(),
    /** Certificates that vouch for the server; default: the system's. */
    ca_file: z.string().min(1).optional(),
    client_cert_file: z.string().min(1).optional(),
    client_key_file: z.string().min(1).optional(),
  })
  .refine(
    ({ client_cert_file: cert, client_key_file: key }) => (cert === undefined) === (key === undefined),
    { path: ['client_cert_file'], message: 'client_cert_file and client_key_file go together' },
  );

/** The settings of `audit:` that say where a writer keeps its checkpoints. */
export const checkpointSettings = {
  /** JSON lines, one for each checkpoint, to be kept where the database cannot reach them. */
  checkpoint_file: z.string().min(1).optional(),
  /** Each checkpoint is posted there. */
  checkpoint_url: z.string().refine(isServiceAddress, SERVICE_ADDRESS_FORM).optional(),
  checkpoint_service: serviceSchema.default(() => serviceSchema.parse({})),
  checkpoint_every_seconds: z.number().min(1).max(MAX_EVERY_SECONDS).default(DEFAULT_EVERY_SECONDS),
};

type CheckpointSettings = z.output<z.ZodObject<typeof checkpointSettings>>;

/** Where checkpoints go, and how often one is made. */
export interface CheckpointPlaces {
  readonly file: string | undefined;
  readonly service: CheckpointService | undefined;
  readonly everyMs: number;
}

/** Undefined when neither a file nor an address is named. */
export const checkpointsOf = (settings: CheckpointSettings): CheckpointPlaces | undefined => {
  const { checkpoint_file: file, checkpoint_url: url, checkpoint_service: service } = settings;
  if (file === undefined && url === undefined) return undefined;
  return {
    file,
    service:
      url === undefined
        ? undefined
        : {
            url,
            tokenFile: service.token_file,
            caFile: service.ca_file,
            clientCertFile: service.client_cert_file,
            clientKeyFile: service.client_key_file,
          },
    everyMs: settings.checkpoint_every_seconds * SECOND_MS,
  };
};

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Whether a person's text is a UUID, in either case, as the database reads one. */
export const isUuid = (text: string): boolean => UUID.test(text);

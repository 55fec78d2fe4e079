import { MongoClient } from 'mongodb';

/** As with a driver that does not ask us who logs in, until `mockRestore`. */
export function withoutOurLogins(): jest.SpyInstance {
  const { connect } = MongoClient.prototype;
  return jest.spyOn(MongoClient.prototype, 'connect').mockImplementation(function (this: MongoClient) {
    const { s } = this as unknown as { s: { authProviders: { existingProviders: Map<string, unknown> } } };
    s.authProviders.existingProviders.clear();
    return connect.call(this);
  });
}

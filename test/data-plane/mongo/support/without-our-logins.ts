import { MongoClient } from 'mongodb';
import { authProvidersOf } from '../../../../tenancy/mongo/driver-inside.js';

/** As with a driver that does not ask us who logs in, until `mockRestore`. */
export function withoutOurLogins(): jest.SpyInstance {
  const { connect } = MongoClient.prototype;
  return jest.spyOn(MongoClient.prototype, 'connect').mockImplementation(function (this: MongoClient) {
    const providers = authProvidersOf(this);
    if (providers === undefined) throw new Error('the driver has changed its inside');
    providers.existingProviders.clear();
    // Its own again, which is its class's.
    Reflect.deleteProperty(providers, 'getOrCreateProvider');
    return connect.call(this);
  });
}

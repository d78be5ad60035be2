//! [`TrialDomain`]: the domain of a demonstration.

use alloc::sync::Arc;
use core::marker::PhantomData;

use coppice_control::Control;
use coppice_experiment::Failure;
use coppice_interfaces::{Handle, Imports};
use coppice_runtime::thread::Builder;
use coppice_runtime::{Domain, Environment, StartError};
use coppice_test_interfaces::FaultControl;

use crate::{Load, Trial, console, run};

/// The services that each demonstration needs.
pub struct Services {
    /// The kernel, to kill and to inspect domains.
    pub control: Handle<dyn Control>,
    /// Fault control, to request faults of the driver.
    pub fault_control: Handle<dyn FaultControl>,
}

/// A demonstration: the imports of its domain, and the load on the device among them.
pub trait Demonstration: Imports + 'static {
    /// The load on the driver.
    type Load: Load;
    /// The device, behind the shadow.
    type Device: Send + 'static;
    /// The default of the domain's option `victim`: the domain to crash.
    const DRIVER: &'static str;
    /// The default of the domain's option `name`: the name of the domain itself.
    const NAME: &'static str;

    /// Separates the services from the device.
    fn split(self) -> (Services, Self::Device);

    /// Sets up the load.
    ///
    /// # Errors
    /// [`Failure`] when an option is malformed, or the device does not support the load.
    fn load(trial: Arc<Trial>, device: Self::Device) -> Result<Self::Load, Failure>;
}

/// The domain of a demonstration: runs its trial on a thread, and then ends the system.
pub struct TrialDomain<D>(PhantomData<D>);

impl<D: Demonstration> Domain for TrialDomain<D> {
    type Imports = D;
    type Export = ();

    fn start(environment: &Environment<'_>, imports: D) -> Result<(), StartError> {
        let driver = environment.option("victim").unwrap_or(D::DRIVER);
        let observer = environment.option("name").unwrap_or(D::NAME);
        let (services, device) = imports.split();
        let control = services.control.clone();
        let run = move || {
            let trial = Trial::new(services, [driver, observer]);
            let success = match trial.and_then(|trial| D::load(Arc::new(trial), device)) {
                Ok(load) => run::run(&Arc::new(load)),
                Err(failure) => {
                    console::broken(&control, &failure.0);
                    false
                }
            };
            let _ = control.shut_down(success);
        };
        // The priority is above the load's, which would otherwise delay the reports.
        Builder::new().priority(0).spawn(run)?;
        Ok(())
    }
}

//! Tests of the driver and the apply side through their public API.

mod arbitrary;
mod bugs;
mod driver;
mod overload;
mod reads;
mod scripted;
mod slow_disks;
mod stored_values;

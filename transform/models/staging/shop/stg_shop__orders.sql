with

    source as (select * from {{ source("shop", "orders") }}),

    final as (

        select
            -- ids
            cast(order_id as bigint) as order_id,
            cast(customer_id as bigint) as customer_id,
            cast(store_id as bigint) as store_id,

            -- strings
            cast(status as varchar) as status,

            -- timestamps
            cast(ordered_at as timestamp) as ordered_at,
            cast(updated_at as timestamp) as updated_at,
            _sdc_batched_at as loaded_at

        from source
        where _sdc_deleted_at is null

    )

select *
from final

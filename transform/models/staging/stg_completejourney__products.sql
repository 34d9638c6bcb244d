with

    source as (select * from {{ source("completejourney", "products") }}),

    final as (

        select
            -- ids
            cast(product_id as bigint) as product_id,
            cast(manufacturer_id as bigint) as manufacturer_id,

            -- strings
            department,
            brand,
            product_category,
            product_type,
            package_size

        from source

    )

select *
from final
